"""The world behind small protocols: venue, broker, clickhouse, onnx, settings, metrics."""
