"""Methods of compression and distillation, the modes, and the networks that they are tried with."""

from __future__ import annotations

MODES = ("cls", "cls_distill", "cls_distill_multiopt", "cls_teacher")
#: Network → what it is built with, and two layers that terms of features follow.
NETWORKS = {
    "mobilenet_v3_small_x0_35": (["data.image_size=32"], "conv2,conv4"),
    "resnet18": (["data.image_size=32"], "layer1,layer2"),
    "efficientnet_lite0": (["data.image_size=32"], "blocks.1,blocks.3"),
    "paddleclas/DeiT_tiny_patch16_224": (["data.image_size=32", "+model.kwargs.depth=2"], "blocks.0,blocks.1"),
}
PRUNE, QUANTIZE = "compression.prune", "compression.quantize"
COMPRESSION = {
    "qat": ["compression=qat"],
    "qat without PACT": ["compression=qat", f"{QUANTIZE}.pact.enabled=false"],
    "lsq": ["compression=lsq"],
    "lsq, 4-bit weights": ["compression=lsq", f"{QUANTIZE}.weight_bits=4"],
    "lsq, 4 bits by sensitivity": ["compression=lsq", f"{QUANTIZE}.average_weight_bits=4"],
    "ptq": ["compression=ptq"],
    "ptq, abs_max": ["compression=ptq", f"{QUANTIZE}.algorithm=abs_max"],
    "ptq, kl": ["compression=ptq", f"{QUANTIZE}.algorithm=kl"],
    "ptq, mse": ["compression=ptq", f"{QUANTIZE}.algorithm=mse"],
    "ptq, 4 bits in some layers": ["compression=ptq", f"+{QUANTIZE}.layer_bits={{*1*:4}}"],
    "ptq, mse, bias correction": [
        "compression=ptq", f"{QUANTIZE}.algorithm=mse", f"{QUANTIZE}.weight_range=mse",
        f"{QUANTIZE}.bias_correction=true",
    ],
    "ptq, AdaRound": ["compression=ptq", f"{QUANTIZE}.adaround.enabled=true", f"{QUANTIZE}.adaround.iterations=20"],
    "fpgm": ["compression=fpgm"],
    "fpgm, MACs, ranking": ["compression=fpgm", f"{PRUNE}.budget=macs", f"{PRUNE}.allocation=ranking"],
    "fpgm, parameters": ["compression=fpgm", f"{PRUNE}.budget=params"],
    "fpgm, in two parts while training": [
        "compression=fpgm", f"{PRUNE}.begin_epoch=1", f"{PRUNE}.parts=2", f"{PRUNE}.every_epochs=1",
        "data.train_images=4", "train.epochs=4",
    ],
    "fpgm, latency": ["compression=fpgm", f"{PRUNE}.budget=latency", f"{PRUNE}.ratio=0.05", "deploy.bench_s=0.2"],
    "fpgm, sensitivity": ["compression=fpgm", f"{PRUNE}.allocation=sensitivity", f"{PRUNE}.sensitivity_images=8"],
    "l1_norm": ["compression=fpgm", f"{PRUNE}.criterion=l1_norm"],
    "l2_norm": ["compression=fpgm", f"{PRUNE}.criterion=l2_norm"],
    "bn_scale": ["compression=fpgm", f"{PRUNE}.criterion=bn_scale"],
    "bn_scale with sparsity, while training": [
        "compression=fpgm", f"{PRUNE}.criterion=bn_scale", f"{PRUNE}.sparsity=1e-3", f"{PRUNE}.begin_epoch=1",
    ],
    "taylor": ["compression=fpgm", f"{PRUNE}.criterion=taylor", f"{PRUNE}.batches=1"],
    "fpgm, then qat": ["compression=fpgm_qat"],
}  # fmt: skip
#: Distillation from more than one other network.
SEVERAL = "kl, several networks"
#: Terms; those of features have their layers added.
DISTILLATION = {
    "kl": ["mimic=kl"],
    "kd": ["mimic=kd"],
    "kd, standardised": ["mimic=kd", "mimic.standardize=true"],
    "dml": ["mimic=dml"],
    "js_original": ["mimic=js_original"],
    "dkd": ["mimic=dkd"],
    "dist": ["mimic=dist"],
    "rkd": ["mimic=rkd"],
    "hint": ["features=hint"],
    "attention_transfer": ["features=attention_transfer"],
    "rkd of features": ["features=rkd"],
    "kd and rkd at once": ["mimic=kd", "+mimic@also.mimic.relations=rkd"],
    SEVERAL: ["mimic=kl"],
}
METHODS = COMPRESSION | DISTILLATION


def overrides(network: str, mode: str, method: str, teacher: object = "RUN") -> list[str]:
    """What chooses a network, a mode and a method; `teacher` is the run of the teacher in the mode that has one."""
    built, layers = NETWORKS[network]
    words = [f"model={network}", *built, f"mode={mode}", *METHODS[method]]
    if "features=" in METHODS[method][0]:
        words += [f"features.layers=[{layers}]", *(["~mimic"] if mode != "cls" else [])]
    if mode == "cls_teacher":
        words.append(f"mode.teacher_from={teacher}")
        words += [f"+mode.more_teachers={{second:{{teacher_from:{teacher}}}}}"] if method == SEVERAL else []
    elif mode != "cls":
        words += ["mode.peers=3"] if method == SEVERAL else []
    elif method in DISTILLATION:
        # A single network has its own average as its teacher.
        words.append("mode.average=true")
    return words
