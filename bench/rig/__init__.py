"""What a bench stands on: server and generator on a core each, steady load, the options that benches share."""
