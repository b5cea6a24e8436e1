"""A bookshop's support desk: an agent, its tools, and a stand-in for its model. Everything runs on this machine."""
