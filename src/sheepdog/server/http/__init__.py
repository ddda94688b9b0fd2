"""The wire on the server's side: HTTP over TLS, who may come in, and how much they may carry."""
