import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from burnish.planning.live import HostBytes, LiveBytes


def test_the_peak_is_what_was_alive_at_once_not_what_was_made():
    known = torch.zeros(256)
    with LiveBytes([known]) as live:
        first = known + 1  # 1,024 bytes
        second = first + 1  # 2,048 alive
        del first
        third = second + 1
    assert live.peak == 2048
    assert live.live == 2048
    del second, third
    assert live.live == 0


def test_a_view_counts_with_its_tensor_and_known_tensors_never_count():
    known = torch.zeros(16, 16)
    with LiveBytes([known]) as live:
        view = known.t()
        made = torch.zeros(10)
        same = made.view(2, 5)
    assert live.live == 40
    assert view.shape == (16, 16)
    assert same.shape == (2, 5)


def test_what_autograd_keeps_counts_until_the_backward_pass():
    weight = torch.zeros(100, requires_grad=True)
    with LiveBytes([weight]) as live:
        loss = weight.exp().sum()  # keeps exp's result, 400 bytes, and the sum, 4
        assert live.live == 404
        loss.backward()
        weight.grad = None
    del loss
    assert live.live == 0


def test_tensors_as_wide_as_the_vocabulary_are_told_apart():
    with LiveBytes(width=8) as live:
        wide = torch.zeros(4, 8)
        narrow = torch.zeros(5)
    assert (live.peak, live.peak_wide) == (148, 128)
    del wide, narrow


def test_fake_tensors_count_without_taking_memory():
    with FakeTensorMode(), LiveBytes() as live:
        huge = torch.zeros(2**40)
    assert live.peak == 2**42
    del huge


def test_a_host_counts_blocks_of_powers_of_two_until_they_are_dropped():
    host = HostBytes()
    first = host.store(torch.zeros(256))  # 1,024 bytes, as they are
    second = host.store(torch.zeros(300))  # 1,200, in 2,048
    assert host.live == 3072
    back = host.load(second)
    assert (back.shape, back.dtype) == ((300,), torch.float32)
    del first, second
    assert (host.live, host.peak) == (0, 3072)
