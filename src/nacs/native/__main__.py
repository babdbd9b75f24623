"""`python -m nacs.native`: compile in place, and say what is used."""

from nacs.native import level
from nacs.native.build import build

if __name__ == "__main__":
    build()
    print(level())
