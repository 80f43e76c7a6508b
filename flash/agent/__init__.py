"""The agent: the only code of this project that runs on hosts. Standard library only, Python 3.9; its folder is copied as it is."""
