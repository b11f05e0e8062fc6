// Model outputs to a prediction: class, tags, prediction set, "none of these" and heatmap, as belvedere computes them.

const TOP_FRACTION = 0.4; // of the positions, pooled into a class's activation
const TAG_THRESHOLD = 0.5; // least confidence of a tag
const MIN_AREA_FRACTION = 0.01; // of a tag that is the strongest class nowhere
const HEATMAP_LEVELS = 1e4;

/**
 * Converts the outputs for one image to a prediction with the fields of the server's.
 * `outputs` is {probabilities, maps, oodScore}: (K,), (K, h, w) as {data, dims: [1, K, h, w]}, and a number; the last
 * two are undefined if the model lacks them. `model` is {card, accept_rate}.
 */
export function toPrediction(name, { probabilities, maps, oodScore }, { card, accept_rate: acceptRate }) {
  const { class_names: names, uncertainty } = card;
  const predicted = probabilities.indexOf(Math.max(...probabilities));
  const byName = (values) => Object.fromEntries(names.map((each, k) => [each, values[k]]));
  const score = oodScore === undefined || !uncertainty.ood_score_quantiles.length ? null : toPercentile(oodScore, uncertainty.ood_score_quantiles);
  const isNone = score === null ? null : score > acceptRate;
  const fractions = maps && fractionsByPosition(maps, uncertainty.temperature);
  const confidences = maps && uncertainty.tag_model ? tagConfidences(maps, uncertainty.tag_model) : null;
  return {
    image: name,
    answer: isNone ? "none of these" : names[predicted],
    predicted_label: names[predicted],
    confidence: probabilities[predicted],
    probabilities: byName(probabilities),
    tags: isNone || !confidences ? [] : chooseTags(confidences, areaFractions(fractions), predicted, names),
    tag_probabilities: confidences && byName(confidences),
    prediction_set: predictionSet(probabilities, uncertainty.conformal_threshold).map((k) => names[k]),
    none_of_these: isNone,
    none_of_these_score: score,
    warnings: [],
    error: null,
    heatmap: fractions ? toRows(fractions, maps.dims[3]) : null,
  };
}

/** The prediction of an image that cannot be read. */
export function toFailure(name, reason) {
  return {
    image: name, answer: null, predicted_label: null, confidence: null, probabilities: null, tags: [], tag_probabilities: null,
    prediction_set: [], none_of_these: null, none_of_these_score: null, warnings: [], error: reason, heatmap: null,
  };
}

/** Adaptive prediction sets: the classes for which the more probable ones add up to the threshold at most. */
function predictionSet(probabilities, threshold) {
  if (threshold === null) return [];
  let total = 0;
  return rankDescending(probabilities).filter((k, rank) => {
    total += probabilities[k];
    return (rank === 0 ? 0 : total - probabilities[k]) <= threshold;
  });
}

/** The fraction of held-out images with a lower score; it approaches 1 beyond the highest. */
function toPercentile(score, known) {
  const last = known.length - 1;
  const rankOf = (index) => (index < last ? index / last : (2 * last - 1) / (2 * last));
  const beyond = Math.max(score - known[last], 0) / Math.max(known[last] - known[known.length >> 1], 1e-6);
  let rank = rankOf(last);
  if (score < known[last]) {
    const above = known.findIndex((value) => value > score);
    if (above === 0) rank = 0;
    else rank = rankOf(above - 1) + ((rankOf(above) - rankOf(above - 1)) * (score - known[above - 1])) / (known[above] - known[above - 1]);
  }
  return 1 - (1 - rank) * Math.exp(-beyond);
}

/** The softmax over the classes at each position: K arrays of h * w fractions. */
function fractionsByPosition({ data, dims: [, numClasses, height, width] }, temperature) {
  const size = height * width;
  const fractions = Array.from({ length: numClasses }, () => new Float64Array(size));
  for (let at = 0; at < size; at += 1) {
    let highest = -Infinity;
    for (let k = 0; k < numClasses; k += 1) highest = Math.max(highest, data[k * size + at] / temperature);
    let total = 0;
    for (let k = 0; k < numClasses; k += 1) total += fractions[k][at] = Math.exp(data[k * size + at] / temperature - highest);
    for (let k = 0; k < numClasses; k += 1) fractions[k][at] /= total;
  }
  return fractions;
}

const areaFractions = (fractions) => fractions.map((values) => mean(values));

/** The probability that each class is present, from the mean of its strongest activations. */
function tagConfidences({ data, dims: [, numClasses, height, width] }, { scale, bias, cross_class_weights: cross }) {
  const size = height * width;
  const count = Math.max(1, Math.round(size * TOP_FRACTION));
  const activations = scale.map((_, k) => mean(data.slice(k * size, (k + 1) * size).sort().slice(-count)));
  return Array.from({ length: numClasses }, (_, k) => {
    const others = cross.length ? cross[k].reduce((sum, weight, other) => sum + weight * activations[other], 0) : 0;
    const logit = activations[k] * scale[k] + bias[k] + others;
    return 1 / (1 + Math.exp(-Math.min(Math.max(logit, -500), 500)));
  });
}

/** The tags: the predicted class, then the others by area; the areas add up to 1. */
function chooseTags(confidences, fractions, predicted, names) {
  const chosen = confidences.map((confidence, k) => k === predicted || confidence >= TAG_THRESHOLD);
  const areas = fractions.map((fraction, k) => (chosen[k] ? Math.max(fraction, MIN_AREA_FRACTION) : 0));
  const total = areas.reduce((sum, area) => sum + area, 0);
  const order = rankDescending(areas.map((area, k) => (k === predicted ? Infinity : area)));
  return order.filter((k) => chosen[k]).map((k) => ({ name: names[k], area_fraction: areas[k] / total, confidence: confidences[k] }));
}

const rankDescending = (values) => [...values.keys()].sort((one, other) => values[other] - values[one] || one - other);

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function toRows(fractions, width) {
  return fractions.map((values) => {
    const rounded = Array.from(values, (value) => Math.round(value * HEATMAP_LEVELS) / HEATMAP_LEVELS);
    return Array.from({ length: values.length / width }, (_, row) => rounded.slice(row * width, (row + 1) * width));
  });
}
