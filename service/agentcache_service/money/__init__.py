"""The money room: the ledger, payments, subscriptions, invoices and payouts. Nothing outside it writes a posting."""
