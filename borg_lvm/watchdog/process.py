"""The watchdog's own process: run by its path, in an isolated interpreter, by `client.py`. What it does: `service.py`.

Python compiles a program anew at each start, and a module once. Nothing else of ours is found from here: the directory
comes last in the path, behind the standard library.
"""

import os
import sys

if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    __import__("service").main()
