"""The shell on Kafka: the only importer of faust; launcher and command line."""
