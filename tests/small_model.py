"""A recipe of a model so small that it trains in seconds."""

SMALL = """model:
  image_size: 96
  patch_size: 16
  towers:
    - {width: 32, blocks: 1, heads: 2, mlp_dim: 64, num_prefix_tokens: 5, layer_scale: true}
    - {width: 32, blocks: 1, heads: 2, mlp_dim: 64, num_prefix_tokens: 0, layer_scale: false}
  text: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2,
    num_key_value_heads: 2}
"""
