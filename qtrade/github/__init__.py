"""What workflows of GitHub Actions need: their inputs checked, secrets on tmpfs, a summary, issues, pull requests, releases."""
