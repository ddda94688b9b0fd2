"""The user's own files that a request needs: found by following imports, and packed so that they travel as they are."""
