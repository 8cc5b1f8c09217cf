"""clusto, as we serve it and as scripts use it: server/ and client/, drivers and host files beside them.

What reads hosts from it is in sources/."""
