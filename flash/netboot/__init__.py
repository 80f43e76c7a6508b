"""What a flash serves to its host over HTTP: boot scripts, the installer, the job, blobs, and a place for reports."""
