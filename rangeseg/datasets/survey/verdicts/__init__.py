"""What is wrong with scans, as they show it: pure functions of evidence, by topic."""
