"""The Cresceptron: a hierarchy of planes that grows by what it is shown."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.layers.growing_planes import Growing, GrowingPlanes
from deepforward.layers.oriented_edges import OrientedEdges
from deepforward.layers.shapes import expect_image
from deepforward.models.cresceptron.back_tracking import Ascent, blurred
from deepforward.models.cresceptron.segmentation import Recognition, Segmentation, segment

#: Images taken at once, which bounds memory.
_CHUNK = 64


class Cresceptron(Growing):
    """Edges of 8 directions; levels of pattern detection, node reduction and blurring; a node on top for each exemplar.

    | part | computes |
    | --- | --- |
    | edges | strength of each direction, and of no edge (`layers.OrientedEdges`) |
    | blurring | max(a, blur * maximum of a over 3 x 3 cells): parts may be displaced, at a price |
    | pattern detection | a = max(0, (r - match) / (1 - match)), r the overlap with a template of 3 x 3 cells |
    | node reduction | maximum over 2 x 2 cells, each level halving the image |
    | top | overlap with an exemplar over all cells; a class responds as its strongest node |

    A displacement of one cell counts more pixels the higher the level, as distortions grow with the distance between parts.

    `learn` grows a plane at each level for every pattern that none matches, and a node for every image that is not recognised.
    What has grown never responds differently later; so images that have been learnt grow nothing when they are shown again, and
    are recognised, each by a node of its own (response 1) if need be. Two images that look alike to the top but
    have different labels are the exception.

    The network learns without gradients. Its one parameter turns responses r into logits, -exp(log_sharpness) (1 - r): which
    class wins does not depend on it, how sure the network is does. It can be trained (objective `growth`).

    It differs from the papers in this: edges are graded instead of zero crossings; absence of an edge is a feature; cells
    compare instead of summing; one scale instead of several; exemplars are whole images, and no outline is drawn by a teacher.

    Args:
        input_shape: (1, height, width) of the images to learn.
        num_outputs: Number of classes.
        levels: Levels of pattern detection, at least 1.
        match: Least response by which a plane matches a pattern, in (0, 1); below, it is silent.
        recognition: Least response by which a node recognises an image of its class, in (0, 1].
        synapses: Most connections of a template at each place of its window.
        blur: What a neighbour's activity counts, in [0, 1]; 0 allows no displacement.

    Attributes:
        growth: A row each time that something was learnt: images shown so far, then planes of each level, then nodes.

    Raises:
        ShapeError: The examples are no images of one channel and sufficient size.
        InvalidOption: An option is out of range.

    Source:
        Weng, Ahuja, Huang 1992, Cresceptron: a self-organizing neural network which grows adaptively, IJCNN; 1997, Learning
        recognition and segmentation using the Cresceptron, International Journal of Computer Vision 25.
    """

    labels: Tensor
    growth: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        levels: int = 2,
        match: float = 0.5,
        recognition: float = 0.8,
        synapses: int = 3,
        blur: float = 0.7,
    ) -> None:
        super().__init__()
        _check(levels, synapses, match=match, recognition=recognition, blur=blur)
        channels, height, width = expect_image("cresceptron", input_shape, smallest=2 ** (levels + 1))
        if channels != 1:
            raise ShapeError(
                f"model 'cresceptron' got images of {channels} channels, expected 1; make them grey (folder:DIR?mode=L)"
            )
        self.input_shape, self.num_classes = tuple(input_shape), num_outputs
        self.match, self.recognition, self.blur = match, recognition, blur
        self.edges = OrientedEdges()
        self.levels = nn.ModuleList(GrowingPlanes((3, 3), synapses, padding=True) for _ in range(levels))
        shrink = 2**levels
        self.top = GrowingPlanes((-(-height // shrink), -(-width // shrink)), synapses, padding=False)
        self.log_sharpness = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("growth", torch.zeros(0, levels + 2, dtype=torch.int64))

    @property
    def stride(self) -> int:
        """Pixels between two neighbouring cells of the top."""
        return int(2 ** len(self.levels))

    @property
    def planes(self) -> tuple[int, ...]:
        """Planes of each level, then nodes of the top."""
        return (*(len(level) for level in self.stages), len(self.top))

    @property
    def stages(self) -> list[GrowingPlanes]:
        """The levels of pattern detection, from below."""
        return [level for level in self.levels if isinstance(level, GrowingPlanes)]

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits: -sharpness (1 - response of the class), that of the place where it is highest if images are larger."""
        return self.logits(self.responses(images).flatten(2).amax(2))

    def logits(self, responses: Float[Tensor, "batch nodes"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes, given the responses of the nodes; a class without nodes has response 0."""
        scores = responses.new_zeros(len(responses), self.num_classes)
        for label in range(self.num_classes):
            own = responses[:, self.labels == label]
            if own.shape[1]:
                scores[:, label] = own.amax(1)
        return -self.log_sharpness.exp() * (1 - scores)

    @torch.no_grad()
    def responses(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch nodes rows columns"]:
        """Responses of all nodes at every place, `stride` pixels apart, where images as large as those learnt fit in.

        Raises:
            ShapeError: Images of several channels or smaller than those learnt.
        """
        self._expect(images)
        if not len(self.top):
            cells = (
                -(-size // self.stride) - window + 1 for size, window in zip(images.shape[2:], self.top.window, strict=True)
            )
            return images.new_zeros(len(images), 0, *cells, dtype=torch.float32)
        return torch.cat([self.top(self._below_top(chunk)) for chunk in images.float().split(_CHUNK)])

    @torch.no_grad()
    def recognise(self, images: Float[Tensor, "batch channels height width"], label: int | None = None) -> Recognition:
        """The strongest node for each image, and where it sees the object.

        The top stands every `stride` pixels; so in larger images it is asked anew for each offset below that.

        Args:
            images: Grey images at least as large as those learnt.
            label: Class to look for; any if None.

        Raises:
            InvalidData: Nothing has been learnt, or nothing of that class.
            ShapeError: As `responses`.
        """
        wanted = torch.ones_like(self.labels, dtype=torch.bool) if label is None else self.labels == label
        if not wanted.any():
            sought = "anything" if label is None else f"class {label}"
            raise InvalidData(f"the Cresceptron has learnt nothing of {sought} yet; call learn(images, labels) first")
        self._expect(images)
        room = [size - least + 1 for size, least in zip(images.shape[2:], self.input_shape[1:], strict=True)]
        found: list[Tensor] = []
        for row in range(min(self.stride, room[0])):
            for column in range(min(self.stride, room[1])):
                responses = self.responses(images[:, :, row:, column:]).where(wanted[:, None, None], -1.0)
                best, place = responses.flatten(1).max(1)
                node, rows, columns = torch.unravel_index(place, responses.shape[1:])
                where = (node, row + rows * self.stride, column + columns * self.stride)
                found.append(torch.stack([best.double(), *(number.double() for number in where)], 1))
        choices = torch.stack(found, 1)
        strongest = choices[torch.arange(len(images)), choices[..., 0].argmax(1)]
        nodes, tops, lefts = strongest[:, 1:].long().unbind(1)
        return Recognition(self.labels[nodes], strongest[:, 0].float(), nodes, tops, lefts)

    @torch.no_grad()
    def segment(self, image: Float[Tensor, "channels height width"], label: int | None = None) -> Segmentation:
        """Find an object and the edges that it was recognised by; their convex hull is its outline.

        Args:
            image: Grey image at least as large as those learnt.
            label: Class to look for; any if None.

        Raises:
            InvalidData, ShapeError: As `recognise`.
        """
        return segment(self, image.float(), self.recognise(image[None], label))

    @torch.no_grad()
    def learn(
        self,
        images: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " labels"],
        progress: Callable[[str], None] = lambda line: None,
    ) -> tuple[int, ...]:
        """Grow until every pattern of the images is matched and every image recognised.

        Images are taken in their order, some at a time, level by level. A node that grows may win over an image that was
        recognised before; so the top is gone through again until nothing grows.

        Args:
            images: Grey images of the size that the network was made for, in any units; the first that are learnt fix what
                counts as a strong edge.
            labels: Their classes.
            progress: Told how much has been learnt.

        Returns:
            New planes of each level, then new nodes; all zeros for what is known.

        Raises:
            ShapeError: Images of another size or of several channels, or another number of labels.
            InvalidData: A label out of range, no images, or images all of one grey level.
        """
        self._expect(images, exactly=True)
        self._expect_labels(labels, len(images))
        if not self.edges.is_adapted:
            self.edges.adapt(images)
        before, nodes = self.planes, -1
        while nodes < len(self.top):
            nodes = len(self.top)
            for chunk, own in zip(images.split(_CHUNK), labels.split(_CHUNK), strict=True):
                self._grow(chunk.float(), own)
                self._note(len(chunk))
                progress(f"{int(self.growth[-1, 0])} images shown; planes and nodes: {', '.join(map(str, self.planes))}")
        return tuple(after - former for after, former in zip(self.planes, before, strict=True))

    def _note(self, shown: int) -> None:
        earlier = int(self.growth[-1, 0]) if len(self.growth) else 0
        self.growth = torch.cat([self.growth, self.growth.new_tensor([[earlier + shown, *self.planes]])])

    def _grow(self, images: Tensor, labels: Tensor) -> None:
        activity = self.edges(images)
        for level in self.stages:
            below = blurred(activity, self.blur)
            level.grow(below, self.match)
            activity = _reduced(self._active(level(below)))
        below = blurred(activity, self.blur)
        windows, responses = self.top.windows(below)[:, 0], self.top(below).flatten(1)
        for i in range(len(images)):
            if not self._recognised(responses[i], int(labels[i])):
                node = self.top.add(windows[i])
                self.labels = torch.cat([self.labels, labels[i : i + 1].to(self.labels)])
                responses = torch.cat([responses, self.top.respond(windows, node)[:, None]], 1)

    def _recognised(self, responses: Tensor, label: int) -> bool:
        """Whether a node of the class responds enough and none of another more."""
        own = responses[self.labels == label]
        return len(own) > 0 and bool(own.max() >= max(self.recognition, float(responses.max())))

    def _below_top(self, images: Tensor) -> Tensor:
        return blurred(self.climb(images).entering[-1], self.blur)

    @torch.no_grad()
    def climb(self, images: Float[Tensor, "batch 1 height width"]) -> Ascent:
        """All maps on the way up, of a batch."""
        entering, responding = [self.edges(images)], []
        for level in self.stages:
            responding.append(self._active(level(blurred(entering[-1], self.blur))))
            entering.append(_reduced(responding[-1]))
        return Ascent(entering, responding, self.blur)

    def _active(self, responses: Tensor) -> Tensor:
        return ((responses - self.match) / (1 - self.match)).clamp(min=0)

    def _expect(self, images: Tensor, exactly: bool = False) -> None:
        """Refuse images of several channels, smaller than those of the network, or of another size at all.

        Raises:
            ShapeError: They do not fit.
        """
        _, height, width = self.input_shape
        got = tuple(images.shape[1:])
        fits = got == self.input_shape if exactly else got[0] == 1 and got[1] >= height and got[2] >= width
        if not fits:
            least = "" if exactly else " at least"
            raise ShapeError(
                f"the Cresceptron got images of shape {got}; expected grey ones of{least} {self.input_shape}; convert or resize"
            )

    def _expect_labels(self, labels: Tensor, images: int) -> None:
        if not images:
            raise InvalidData("the Cresceptron got no images to learn; give at least one")
        if len(labels) != images:
            raise ShapeError(f"the Cresceptron got {len(labels)} labels for {images} images; give one for each")
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= self.num_classes:
            wrong = least if least < 0 else most
            raise InvalidData(f"the Cresceptron got label {wrong}; expected 0 to {self.num_classes - 1}; number the classes so")


def _reduced(activity: Tensor) -> Tensor:
    """Node reduction."""
    return F.max_pool2d(activity, 2, 2, ceil_mode=True)


def _check(levels: int, synapses: int, **shares: float) -> None:
    """Refuse options that are out of range.

    Raises:
        InvalidOption: The message names the option.
    """
    for name, number in (("levels", levels), ("synapses", synapses)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidOption(f"cresceptron got {name}={number!r}; expected a whole number of at least 1")
    ends = {"match": (False, False), "recognition": (False, True), "blur": (True, True)}
    for name, value in shares.items():
        low, high = ends[name]
        if not (0 < value < 1 or (low and value == 0) or (high and value == 1)):
            raise InvalidOption(f"cresceptron got {name}={value!r}; expected a number between 0 and 1")
