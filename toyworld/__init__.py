"""A small world that is really trained, so that motion can be measured on any machine. See docs/toyworld.md."""
