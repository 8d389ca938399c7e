"""A ResNetTSM of mmaction2 that can be narrower than 64 channels."""


def register_narrow_tsm() -> None:
    """Add `NarrowResNetTSM` to mmaction2's backbones, once.

    It is ResNetTSM, blocks, shifts and non-local blocks included, with one more argument:
    `base_channels`, the width of the stem (mmaction2 fixes it at 64).
    """
    from mmaction.models.backbones.resnet import make_res_layer
    from mmaction.models.backbones.resnet_tsm import ResNetTSM
    from mmaction.models.builder import BACKBONES
    from mmcv.cnn import ConvModule

    if "NarrowResNetTSM" in BACKBONES:
        return

    @BACKBONES.register_module()
    class NarrowResNetTSM(ResNetTSM):  # type: ignore[misc]
        """ResNetTSM with `base_channels` channels where the original has 64."""

        def __init__(self, depth: int, base_channels: int = 64, **options: object) -> None:
            super().__init__(depth, **options)
            layers = {"conv_cfg": self.conv_cfg, "norm_cfg": self.norm_cfg}
            self.conv1 = ConvModule(
                self.in_channels,
                base_channels,
                kernel_size=7,
                stride=2,
                padding=3,
                bias=False,
                act_cfg=self.act_cfg,
                **layers,
            )
            in_channels = base_channels
            for stage, (name, blocks) in enumerate(
                zip(self.res_layers, self.stage_blocks, strict=True)
            ):
                channels = base_channels * 2**stage
                layer = make_res_layer(
                    self.block,
                    in_channels,
                    channels,
                    blocks,
                    stride=self.strides[stage],
                    act_cfg=self.act_cfg,
                    **layers,
                )
                setattr(self, name, layer)
                in_channels = channels * self.block.expansion
            self.feat_dim = in_channels
