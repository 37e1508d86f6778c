"""The functional 90-keypoint model of Keras 2, as its users write it: layers named as BART's.

Made with tf_keras, so that its files are Keras 2's own. Masks are -1e9 and the class is read at the
last valid frame, as there.
"""

import tensorflow as tf
from tf_keras import Input, Model, layers


def attend(queries, keys, bias, layer):
    def heads(states):
        shape = tf.shape(states)
        width = states.shape[-1] // layer.heads
        states = tf.reshape(states, (shape[0], shape[1], layer.heads, width))
        return tf.transpose(states, (0, 2, 1, 3))

    width = queries.shape[-1] // layer.heads
    query = heads(layer.q_proj(queries) * width**-0.5)
    key, value = heads(layer.k_proj(keys)), heads(layer.v_proj(keys))
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + bias, axis=-1)
    joined = tf.transpose(tf.matmul(weights, value), (0, 2, 1, 3))
    return layer.out_proj(tf.reshape(joined, tf.shape(queries)))


class Attention(layers.Layer):
    def __init__(self, width, heads, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            setattr(self, name, layers.Dense(width, name=name))

    def call(self, queries, keys, bias):
        return attend(queries, keys, bias, self)


def norm(name):
    return layers.LayerNormalization(epsilon=1e-5, name=name)


class PositionalEmbedding(layers.Layer):
    def __init__(self, positions, width, **kwargs):
        super().__init__(**kwargs)
        self.embedding = layers.Embedding(positions + 2, width, name="position_embedding")

    def call(self, states):
        return self.embedding(tf.range(tf.shape(states)[1])[None] + 2)


class Block(layers.Layer):
    attentions = ("self_attn",)

    def __init__(self, width, heads, ffn, **kwargs):
        super().__init__(**kwargs)
        for name in self.attentions:
            setattr(self, name, Attention(width, heads, name=name))
            setattr(self, f"{name}_layer_norm", norm(f"{name}_layer_norm"))
        self.fc1 = layers.Dense(ffn, name="fc1")
        self.fc2 = layers.Dense(width, name="fc2")
        self.final_layer_norm = norm("final_layer_norm")

    def call(self, states, *given):
        for name, (keys, bias) in zip(self.attentions, given, strict=True):
            attended = getattr(self, name)(states, states if keys is None else keys, bias)
            states = getattr(self, f"{name}_layer_norm")(states + attended)
        return self.final_layer_norm(states + self.fc2(tf.nn.gelu(self.fc1(states))))


class EncoderLayer(Block):
    pass


class DecoderLayer(Block):
    attentions = ("self_attn", "encoder_attn")


def padding(mask):
    return (1.0 - mask[:, None, None, :]) * -1e9


class Encoder(layers.Layer):
    def __init__(self, width, heads, ffn, positions, number, **kwargs):
        super().__init__(**kwargs)
        self.embed_positions = PositionalEmbedding(positions, width, name="embed_positions")
        self.encoder_layers = [
            EncoderLayer(width, heads, ffn, name=f"encoder_layer_{i}") for i in range(number)
        ]
        self.layernorm_embedding = norm("layernorm_embedding")

    def call(self, x_embed, attention_mask):
        states = self.layernorm_embedding(x_embed + self.embed_positions(x_embed))
        for layer in self.encoder_layers:
            states = layer(states, (None, padding(attention_mask)))
        return states


class Decoder(layers.Layer):
    def __init__(self, width, heads, ffn, positions, number, **kwargs):
        super().__init__(**kwargs)
        self.embed_positions = PositionalEmbedding(positions, width, name="embed_positions")
        self.decoder_layers = [
            DecoderLayer(width, heads, ffn, name=f"decoder_layer_{i}") for i in range(number)
        ]
        self.layernorm_embedding = norm("layernorm_embedding")

    def call(self, y_embed, encoded, attention_mask):
        frames = tf.shape(y_embed)[1]
        future = (1.0 - tf.linalg.band_part(tf.ones((frames, frames)), -1, 0)) * -1e9
        states = self.layernorm_embedding(y_embed + self.embed_positions(y_embed))
        bias = padding(attention_mask)
        for layer in self.decoder_layers:
            states = layer(states, (None, bias + future), (encoded, bias))
        return states


class Projection(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.proj_x1 = layers.Dense(width, name="proj_x1")
        self.proj_y1 = layers.Dense(width, name="proj_y1")

    def call(self, points):
        return self.proj_x1(points[..., 0]), self.proj_y1(points[..., 1])


class ExtractLastValidToken(layers.Layer):
    def call(self, inputs):
        states, mask = inputs
        last = tf.cast(tf.reduce_sum(mask, axis=1), tf.int32) - 1
        return tf.gather(states, last, batch_dims=1)


class ClassificationHead(layers.Layer):
    def __init__(self, classes, **kwargs):
        super().__init__(**kwargs)
        self.dropout = layers.Dropout(0.1, name="dropout")
        self.out_proj = layers.Dense(classes, name="out_proj")

    def call(self, states):
        return self.out_proj(self.dropout(states))


def functional(config) -> Model:
    """The model of a `SignBartConfig`."""
    c = config
    inputs = {
        "keypoints": Input((None, c.num_keypoints, 2), name="keypoints"),
        "attention_mask": Input((None,), name="attention_mask"),
    }
    mask = inputs["attention_mask"]
    x_embed, y_embed = Projection(c.d_model, name="projection")(inputs["keypoints"])
    encoded = Encoder(
        c.d_model, c.encoder_attention_heads, c.encoder_ffn_dim, c.max_position_embeddings,
        c.encoder_layers, name="encoder",
    )(x_embed, mask)  # fmt: skip
    decoded = Decoder(
        c.d_model, c.decoder_attention_heads, c.decoder_ffn_dim, c.max_position_embeddings,
        c.decoder_layers, name="decoder",
    )(y_embed, encoded, mask)  # fmt: skip
    last = ExtractLastValidToken(name="extract_last_token")([decoded, mask])
    logits = ClassificationHead(c.num_labels, name="classification_head")(last)
    return Model(inputs, logits, name="signbart_functional")
