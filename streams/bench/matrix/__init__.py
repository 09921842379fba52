"""The order boundary matrix: every boundary of the order path crossed with every fault that can meet it (docs/order-path.md)."""
