"""A SAM of 64² pixels with random weights, as its classes make it; some seconds of import, milliseconds to ask."""

from functools import partial
from pathlib import Path

SIDE, PATCH, WIDTH, CHANNELS = 64, 16, 32, 32


def write(path: Path, seed: int = 0, *, trusts: float | None = None) -> Path:
    """Write its weights; with ``trusts`` it expects this IoU of every mask, whatever it is shown."""
    import torch
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(seed)
    grid = SIDE // PATCH
    encoder = ImageEncoderViT(
        img_size=SIDE, patch_size=PATCH, embed_dim=WIDTH, depth=3, num_heads=2, mlp_ratio=2, out_chans=CHANNELS,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=3, global_attn_indexes=(1,),
    )  # fmt: skip
    prompt = PromptEncoder(CHANNELS, (grid, grid), (SIDE, SIDE), mask_in_chans=4)
    transformer = TwoWayTransformer(depth=2, embedding_dim=CHANNELS, num_heads=8, mlp_dim=24)
    decoder = MaskDecoder(transformer_dim=CHANNELS, transformer=transformer, iou_head_hidden_dim=16)
    model = Sam(encoder, prompt, decoder)
    for parameter in model.parameters():
        if not parameter.any():  # what starts at 0 would hide a mistake
            torch.nn.init.normal_(parameter, std=0.1)
    if trusts is not None:
        last = decoder.iou_prediction_head.layers[-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, trusts)
    torch.save(model.state_dict(), path)
    return path
