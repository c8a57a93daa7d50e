// How often a label is right.

#include "common.h"

// logits [rows, classes], labels [rows] → out [2]: labels with the largest logit, labels among the `most` largest. Of
// equal logits the smaller class comes first; a label whose logit is not a number comes last. Returns -1, or the first row
// whose label is no class.
EXPORT Index hits(Index rows, Index classes, Index most, const float* logits, const Index* labels, float* out) {
  Index first = 0, among = 0;
  for (Index row = 0; row < rows; ++row) {
    if (labels[row] < 0 || labels[row] >= classes) return row;
    const float* values = logits + row * classes;
    const float own = values[labels[row]];
    Index before = 0;
    for (Index c = 0; c < classes; ++c) before += !(values[c] <= own) || (values[c] == own && c < labels[row]);
    first += before < 1;
    among += before < most;
  }
  out[0] = first;
  out[1] = among;
  return -1;
}
