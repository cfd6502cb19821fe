"""One caller: dialogue logic, the tasks that carry it out, conversation lines, playout."""
