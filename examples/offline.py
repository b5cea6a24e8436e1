"""Run an example without a network or a key: `python examples/offline.py chatbot` starts the stand-in model for it."""

import os
import runpy
import sys
from pathlib import Path

from support_desk.stand_in import StandIn

HERE = Path(__file__).parent


def main() -> int:
    """Run the example named on the command line; 2 when there is none of that name."""
    names = sorted(path.stem for path in (HERE / "uncached").glob("*.py"))
    if len(sys.argv) != 2 or sys.argv[1].removeprefix("uncached/") not in names:
        print(f"usage: python examples/offline.py NAME, where NAME is one of {', '.join(names)}", file=sys.stderr)
        return 2
    with StandIn() as model:
        os.environ |= {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "none-needed"}
        runpy.run_path(str(HERE / f"{sys.argv[1]}.py"), run_name="__main__")
        print(f"\n(the model was asked {model.calls} times)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
