"""The embedded inventory, a process of its own: clusto-httpd's questions and changes on SQLite or PostgreSQL."""
