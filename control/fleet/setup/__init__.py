"""A fleet's first day: keys, certificates, the engine's configuration and each machine's section, made in one go."""
