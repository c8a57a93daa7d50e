"""Trackers as mirrors of run directories: processes of their own replay the journals of runs into them."""
