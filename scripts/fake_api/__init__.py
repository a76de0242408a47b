"""fake_api - a real HTTP server that speaks every vendor's wire format, scripted, with faults on demand (tests, demos, bench)."""
