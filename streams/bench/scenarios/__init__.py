"""What an exchange does to those who hold positions, scenario by scenario, on real workers (docs/scenarios.md)."""
