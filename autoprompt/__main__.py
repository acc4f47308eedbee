"""`python -m autoprompt`."""

from autoprompt.cli import main

raise SystemExit(main())
