"""The embedded Kafka broker, and what we ask of any broker: topics, offsets, a sign of life."""
