"""Recurrent language models: RNN, LSTM, and ELMo, which reads both ways.

The networks and their losses; torch's `nn.RNN` and `nn.LSTM` do the steps, `lstm_step` shows one.
No truncated backpropagation over long texts, no character CNN. Chapters 04 and 06 use it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cookbook.models.outputs import Output, next_token_loss
from cookbook.models.text import sized

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM}


def lstm_step(
    x: Tensor, state: tuple[Tensor, Tensor], w: Tensor, u: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: x (batch, in), state (h, c) each (batch, width) -> the new (h, c).

        i, f, g, o = W x + U h + b                      input, forget, candidate, output
        c' = σ(f) * c + σ(i) * tanh(g)                  what is kept, what is written
        h' = σ(o) * tanh(c')                            what is shown

    The cell c is only scaled and added to: gradients pass through σ(f), not through a matrix.
    `w` (4 width, in), `u` (4 width, width), `b` (4 width). Equal to `torch.nn.LSTMCell`.
    Hochreiter and Schmidhuber, 1997; the forget gate: Gers et al., 2000.
    """
    h, c = state
    i, f, g, o = (x @ w.T + h @ u.T + b).chunk(4, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


class RecurrentLM(nn.Module):
    """A language model that reads a text token by token and keeps all it knows in one state.

        h_t = tanh(W x_t + U h_{t-1} + b)   (`cell="rnn"`; for `"lstm"` see `lstm_step`)
        P(token t+1) = softmax(E h_t)       E is the embedding matrix itself

    Constant memory however long the text, but step t must wait for step t-1: training cannot run
    in parallel over a text, which is what the transformer changed. Mikolov et al., 2010, "Recurrent
    neural network based language model"; tied output: Press and Wolf, 2017, arXiv:1608.05859; the
    forget gate starts open, with a bias of 1: Jozefowicz et al., 2015.

    >>> model = RecurrentLM(vocab_size=11, width=8, layers=1)
    >>> tuple(model(torch.tensor([[2, 5, 3]])).logits.shape)
    (1, 3, 11)
    """

    def __init__(
        self, vocab_size: int, width: int, layers: int, *, cell: str = "lstm", dropout: float = 0.0
    ):
        """Raises ValueError for a cell that is none of "rnn" and "lstm"."""
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}: choose one of {', '.join(CELLS)}")
        self.tokens = nn.Embedding(vocab_size, width)
        between = dropout if layers > 1 else 0.0  # torch warns of a dropout between one layer
        self.cells = CELLS[cell](width, width, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab_size)
        self.head.weight = self.tokens.weight
        _start(self)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None,
        labels: Tensor | None = None, state: Tensor | tuple[Tensor, Tensor] | None = None,
    ) -> Output:  # fmt: skip
        """ids (batch, T) -> logits (batch, T, vocabulary); `extra` is the state after the last.

        Padding on the right needs no mask: what comes later changes nothing before.
        """
        hidden, state = self.cells(self.dropout(self.tokens(input_ids)), state)
        logits = self.head(self.dropout(hidden))
        return Output(next_token_loss(logits, labels), logits, state)


class ElmoLM(nn.Module):
    """ELMo: one LSTM reads from the left, one from the right; together they know each context.

        loss = -mean log P(t_k | t_1..t_{k-1}) - mean log P(t_k | t_{k+1}..t_N)

    The two share embeddings and output layer and nothing else, so neither sees the token that it
    predicts; a two-way LSTM whose layers are concatenated would. The representation for a task is
    a learned mixture of all layers, `γ · Σ_j softmax(s)_j · [→h_j ; ←h_j]` (`represent`). Peters
    et al., 2018, arXiv:1802.05365, whose tokens come from a character CNN; here from a table.
    """

    def __init__(self, vocab_size: int, width: int, layers: int, *, dropout: float = 0.0):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        one_layer = {"input_size": width, "hidden_size": width, "batch_first": True}
        self.ahead = nn.ModuleList(nn.LSTM(**one_layer) for _ in range(layers))
        self.back = nn.ModuleList(nn.LSTM(**one_layer) for _ in range(layers))
        self.head = nn.Linear(width, vocab_size)
        self.mixture, self.scale = (
            nn.Parameter(torch.zeros(layers + 1)),
            nn.Parameter(torch.ones(())),
        )
        _start(self)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> Output:
        """ids (batch, T) -> logits: a pair of (batch, T, vocabulary).

        The first, at t, is for token t+1; the second for token t-1. `labels` as for a causal model.
        """
        lengths = _lengths(input_ids, attention_mask)
        ahead, back = (self.head(layers[-1]) for layers in self._both_ways(input_ids, lengths))
        if labels is None:
            return Output(None, (ahead, back))
        # Token t-1 from the scores at t; the scores at padding have read the whole text before.
        places = torch.arange(1, input_ids.shape[1], device=input_ids.device)
        asked = labels[:, :-1].masked_fill(places >= lengths[:, None], -100)
        before = F.cross_entropy(back[:, 1:].flatten(0, 1), asked.flatten())
        return Output(next_token_loss(ahead, labels) + before, (ahead, back))

    def represent(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(batch, T) -> (batch, T, 2 width): what a task takes as its input."""
        lengths = _lengths(input_ids, attention_mask)
        both = zip(*self._both_ways(input_ids, lengths), strict=True)
        layers = torch.stack([torch.cat(pair, dim=-1) for pair in both])
        return self.scale * torch.einsum("l,lbtw->btw", self.mixture.softmax(0), layers)

    def _both_ways(self, input_ids: Tensor, lengths: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Embeddings and every layer's states, read from the left and read from the right."""
        embedded = self.dropout(self.tokens(input_ids))
        ahead, back = [embedded], [embedded]
        for layer in self.ahead:
            ahead.append(self.dropout(layer(ahead[-1])[0]))
        for layer in self.back:
            turned = layer(_reversed(back[-1], lengths))[0]
            back.append(self.dropout(_reversed(turned, lengths)))
        return ahead, back


def _lengths(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    if attention_mask is None:
        return input_ids.new_full(input_ids.shape[:1], input_ids.shape[1])
    return attention_mask.sum(1)


def _reversed(x: Tensor, lengths: Tensor) -> Tensor:
    """(batch, T, width) with each row's own tokens turned round; padding stays at the end."""
    places = torch.arange(x.shape[1], device=x.device)
    turned = lengths[:, None] - 1 - places
    order = torch.where(turned >= 0, turned, places)
    return x.gather(1, order[..., None].expand_as(x))


def _start(model: nn.Module) -> None:
    """Embeddings of length 2 whatever the width, and open forget gates.

    The first states are small, so the loss starts at ln V all the same. With the ±0.1 of the wide
    models of 2014 a narrow one needs five times the steps.
    """
    bound = (12 / model.tokens.embedding_dim) ** 0.5
    nn.init.uniform_(model.tokens.weight, -bound, bound)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.LSTM):
            for name, bias in layer.named_parameters():
                if name.startswith("bias_ih"):  # torch has two biases and adds them
                    nn.init.ones_(bias[layer.hidden_size : 2 * layer.hidden_size])


def recurrent_lm(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1,
    cell: str = "lstm",
) -> RecurrentLM:  # fmt: skip
    """`RecurrentLM` in a size of `text.SIZES`; `length` has no meaning here, a text may be endless.

    >>> recurrent_lm("tiny", vocab_size=50, cell="rnn").cells.mode
    'RNN_TANH'
    """
    width, layers, _ = sized(size)
    return RecurrentLM(vocab_size, width, layers, cell=cell, dropout=dropout)


def elmo(
    size: str = "tiny", *, vocab_size: int = 8192, length: int = 128, dropout: float = 0.1
) -> ElmoLM:
    """`ElmoLM` in a size of `text.SIZES`.

    >>> len(elmo("tiny", vocab_size=50).back)
    2
    """
    width, layers, _ = sized(size)
    return ElmoLM(vocab_size, width, layers, dropout=dropout)
