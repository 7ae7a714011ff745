"""``python -m outpaint_mcp``."""

import sys

from outpaint_mcp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
