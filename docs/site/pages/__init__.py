"""Pages that are made of code, schemas and roles. Each module has one function that returns Markdown."""
