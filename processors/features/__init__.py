"""Features: what a model sees of a market. The catalogue names them, the kernel computes them.

For training and serving alike:

    from processors.features.catalogue import FEATURE_SET, NAMES, READY_BARS, feature_hash
    from processors.features.kernel import replay

    rows = replay(o, h, l, c, v)    # closed 5m candles, float64 [bars, symbols], oldest first -> float32 [bars, symbols, 49]
    rows[:, :, NAMES.index("hv_50")]
    rows[READY_BARS - 1 :]          # only these may be learnt from or decided on
    feature_hash()                  # what a model must carry: the same 16 digits or it is refused

`replay` loops `FeatureState.step`, the function that live workers call at each close: row t knows candles 0..t and nothing
later. Missing candles are handed in as flat ones (o = h = l = c = the close before, v = 0), as live candles close. Nothing
beyond these five columns is used: trades, quote and taker volumes are in no feature of u49.v1.
"""
