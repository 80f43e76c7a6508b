"""The documentation's site: pages of docs/, pages made of code and schemas, and Sphinx."""
