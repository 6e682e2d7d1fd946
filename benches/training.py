"""Pictures per second of a training step, here and in PyTorch, on the same networks in turns.

- fine_tune: the last six blocks of EfficientNet-lite1 at 192 pixels with a new head of four classes, on batches of 16,
  from the activations in front of the blocks on. Batch normalisation is folded into the convolutions on both sides.
- cnn: the network from scratch for pictures of 28 pixels, on batches of 64, from bytes on; in PyTorch also with the
  channels last in memory.
- separable_cnn: the same with depthwise and pointwise convolutions.

A step is forward, backward, clipping and AdamW.

    cargo build --release -p trainer --example training_speed
    ORT_DYLIB_PATH=... FOVEA_BACKBONES=... python3 benches/training.py target/release/examples/training_speed
"""

import os
import statistics
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

STEPS, ROUNDS, CLASSES = 24, 3, 4


class Same(nn.Conv2d):
    """A convolution with the padding that TensorFlow calls "same"."""

    def forward(self, x):
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        side = x.shape[-1]
        pad = max(0, (-(-side // stride) - 1) * stride + kernel - side)
        if pad % 2 == 0:
            return F.conv2d(x, self.weight, self.bias, stride, pad // 2, 1, self.groups)
        x = F.pad(x, [pad // 2, pad - pad // 2] * 2)
        return F.conv2d(x, self.weight, self.bias, stride, 0, 1, self.groups)


class Block(nn.Module):
    def __init__(self, channels, out, kernel, stride):
        super().__init__()
        wide = 6 * channels
        self.expand = Same(channels, wide, 1)
        self.depthwise = Same(wide, wide, kernel, stride, groups=wide)
        self.project = Same(wide, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x):
        y = F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.residual else y


def fine_tune():
    blocks = [Block(112, 192, 5, 2)] + [Block(192, 192, 5, 1) for _ in range(4)] + [Block(192, 320, 3, 1)]
    tail = [Same(320, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, CLASSES)]
    return nn.Sequential(*blocks, *tail), torch.randn(16, 112, 12, 12)


class Pixels(nn.Module):
    """From bytes with the channels last to numbers around zero."""

    def forward(self, x):
        return (x.permute(0, 3, 1, 2).float() - 127.5) / 64


def cnn():
    body = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    body += [nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    tail = [nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, CLASSES)]
    return nn.Sequential(Pixels(), *body, *tail), torch.randint(0, 256, (64, 28, 28, 3), dtype=torch.uint8)


def separable(channels, out, stride):
    return [Same(channels, channels, 3, stride, groups=channels), nn.ReLU(), Same(channels, out, 1), nn.ReLU()]


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


def separable_cnn():
    body = [Same(3, 32, 3, 2), nn.ReLU(), *separable(32, 64, 1), *separable(64, 128, 2)]
    tail = [Residual(*separable(128, 128, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES)]
    return nn.Sequential(Pixels(), *body, *tail), cnn()[1]


def with_channels_last(make):
    model, x = make()
    return model.to(memory_format=torch.channels_last), x


def cnn_channels_last():
    return with_channels_last(cnn)


def separable_cnn_channels_last():
    return with_channels_last(separable_cnn)


def peer(make):
    """Best and median pictures per second of PyTorch."""
    model, x = make()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=1e-2)
    targets = torch.softmax(torch.randn(len(x), CLASSES), 1)
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimiser.zero_grad()
        F.cross_entropy(model(x), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    del seconds[0]
    return len(x) / min(seconds), len(x) / statistics.median(seconds)


def ours(program, network):
    words = subprocess.run([program, network], check=True, capture_output=True, text=True).stdout.split()
    return float(words[1]), float(words[3])


def main():
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(1)
    networks = [("fine_tune", fine_tune), ("cnn", cnn), ("cnn", cnn_channels_last)]
    networks += [("separable_cnn", separable_cnn), ("separable_cnn", separable_cnn_channels_last)]
    for network, make in networks:
        rows = [(ours(sys.argv[1], network), peer(make)) for _ in range(ROUNDS)]
        for name, at in [("best", 0), ("median", 1)]:
            here, there = (max(row[side][at] for row in rows) for side in (0, 1))
            versus = f"{there:.1f} in PyTorch {torch.__version__}"
            print(f"{make.__name__}, {name}: {here:.1f} pictures/s here, {versus}: {here / there:.2f} x")


if __name__ == "__main__":
    main()
