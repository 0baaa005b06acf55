"""`transform.execute`: a script of the flow's author, run where it can do no harm."""
