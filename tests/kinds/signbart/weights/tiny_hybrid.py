from signbart.weights.rules import Rule, batch_norm, convolution, linear


def rules(config) -> list[Rule]:
    return [
        *linear("embedding"),
        *convolution("depthwise", depthwise=True),
        *convolution("pointwise"),
        *batch_norm("norm"),
        *(rule for name in ("q_proj", "k_proj", "v_proj", "head") for rule in linear(name)),
    ]
