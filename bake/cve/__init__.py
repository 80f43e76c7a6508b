"""The CVE gate: a snapshot of the Debian security tracker, joined with an image's packages, judged with signed waivers."""
