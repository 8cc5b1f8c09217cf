"""What every process of the service has: its log, its build, and how it hangs, is killed or ends with the others."""
