"""What the server decides: plain logic over what it remembers and the store. It opens no socket, file or host."""
