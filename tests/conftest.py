"""What holds for every test."""

import signal

# A shell that starts the tests in the background may ignore interrupts for all that follows.
signal.signal(signal.SIGINT, signal.default_int_handler)
