"""Seeing what was done and why: `explain` in several formats, and `explore`, a session on one saturated program."""

from qegraph.view.explain import explain as explain
from qegraph.view.session import Session as Session
from qegraph.view.session import explore as explore
