"""supervision - keep child processes running: rules (pure), processes, the loop, its control socket, and word to systemd.

pool.py         what a pool file holds
rules.py        what follows from an exit: restart, later, never; who is restarted with it; when; when it is too often (pure)
children.py     one child as a process: started, signalled with its whole group, reaped, its output passed on
supervisor.py   the loop that keeps a pool
control.py      status, stop, restart and reload through a Unix socket
notify.py       sd_notify(3)
"""
