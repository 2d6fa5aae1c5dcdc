"""``python -m workflow_world``: the same as the command ``workflow-world``."""

from .cli import main

if __name__ == "__main__":
    main()
