"""CLIMB's memory in plain Python: lists of dicts, one image after the other, float64.

It shares nothing with the library but the random draws, which it is handed.
"""

import math

import numpy as np


def cosine(x, y):
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


def quantile(values, p):
    """NumPy's linear rule on a list whose NaNs count as larger than any number."""
    ordered = sorted(v for v in values if not math.isnan(v))
    ordered += [math.nan] * (len(values) - len(ordered))
    position = p * (len(ordered) - 1)
    low = math.floor(position)
    if position == low:
        return ordered[low]
    return ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])


class Oracle:
    def __init__(self, settings):
        self.s = settings
        self.stm = [None] * settings["stm"]
        self.ltm = [None] * (settings["ltm"] + 1)
        self.window = []
        self.threshold = math.inf
        self.cycle = 0
        self.events = []  # what has happened, so that a test can see it all did

    # ---- one image -------------------------------------------------------------
    def nearest(self, z):
        best = (None, math.inf)
        for half in (self.stm, self.ltm):  # on equal terms the STM comes first
            found = [(1 - cosine(c["z"], z), c) for c in half if c]
            if found:
                distance, c = min(found, key=lambda pair: pair[0])
                if distance < best[1] - (1e-6 if best[0] else 0):
                    best = (c, distance)
        return best

    def observe(self, image, name, z, draws, embed):
        z = np.asarray(z, np.float64)
        item = {"image": image, "id": name, "cycle": self.cycle}
        near, distance = self.nearest(z)
        filling = None in self.stm
        gate = self.stm[0] if self.s["freeze_with_first_row"] else near
        if filling:
            matches = self.s["first_fill_matches"]
            row = self.stm.index(None)
            self.stm[row] = dict(z=z, items=[item], matches=matches, age=0)
            self.events.append("fill")
        elif distance > self.threshold:
            row = max(range(len(self.stm)), key=lambda i: self.stm[i]["age"])
            self.stm[row] = dict(z=z, items=[item], matches=1, age=0)
            self.events.append("evict")
        elif not distance <= self.threshold:
            self.events.append("drop")
        elif any(near is c for c in self.stm):
            if gate["matches"] != -1:
                near["z"] = (1 - self.s["alpha"]) * near["z"] + self.s["alpha"] * z
                if len(near["items"]) < self.s["images_per_centroid"]:
                    near["items"].append(item)
                near["matches"] += 1
                near["age"] = 0
                self.events.append("match stm")
            else:
                self.events.append("frozen")
        else:
            near["matches"] += 1
            self.join(near, item, z, draws, embed)
        for c in self.stm:
            if c:
                c["age"] += 1
        self.push(distance, filling)
        self.promote(draws)

    def join(self, row, item, z, draws, embed):
        images = self.s["images_per_centroid"]
        if len(row["items"]) < images:
            row["items"].append(item)
            return
        rule, accept = self.s["ltm_replace"], 1.0
        if rule.startswith("reservoir"):
            accept = images / row["matches"]
            rule = rule.removeprefix("reservoir").removeprefix("_") or "uniform"
        elif rule == "random":
            rule, accept = "uniform", 0.5
        elif rule == "none":
            accept = 0.0
        if draws.accept >= accept:
            self.events.append("refuse")
            return
        cycles = [x["cycle"] for x in row["items"]]
        slots = list(range(images))
        if rule == "uniform":
            slot = max(slots, key=lambda i: draws.slot[i])
        elif rule == "oldest":
            slot = cycles.index(min(cycles))
        elif rule == "similar":
            like = [cosine(embed(x["image"]), z) for x in row["items"]]
            slot = max(slots, key=lambda i: like[i])
        elif rule == "balanced_time":
            most = max(cycles.count(c) for c in cycles)
            common = [i for i in slots if cycles.count(cycles[i]) == most]
            slot = max(common, key=lambda i: draws.slot[i])
        row["items"][slot] = item
        self.events.append("replace")

    def push(self, distance, filling):
        if filling and self.s["fill_pushes_nan"]:
            distance = math.nan
        if distance == math.inf:
            return
        self.window += [distance] * self.s["window_repeats"]
        self.window = self.window[-self.s["window"] :]
        self.threshold = quantile(self.window, self.s["percentile"])

    def promote(self, draws):
        for c in self.stm:
            if c and c["matches"] >= self.s["images_per_centroid"]:
                row = self.ltm.index(None)
                self.ltm[row] = dict(z=c["z"].copy(), items=list(c["items"]), matches=0)
                c["items"], c["matches"] = c["items"][:1], -1
                self.events.append("promote")
        if None not in self.ltm:
            self.merge(draws.merge)

    def merge(self, uniform):
        k, images = len(self.ltm), self.s["images_per_centroid"]
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
        i, j = max(pairs, key=lambda p: cosine(*(self.ltm[q]["z"] for q in p)))
        a, b = self.ltm[i], self.ltm[j]
        drawn = [
            [(uniform[r * images + n], x) for n, x in enumerate(c["items"])]
            for r, c in enumerate((a, b))
        ]
        if self.s["merge_select"] == "random":
            order = sorted(drawn[0] + drawn[1], key=lambda pair: pair[0])
        else:  # in turn from either row
            halves = [sorted(d, key=lambda pair: pair[0]) for d in drawn]
            order = []
            for n in range(images):
                order += [h[n] for h in halves if n < len(h)]
        kept = [id(x) for _, x in order[:images]]
        a["items"] = [x for x in a["items"] + b["items"] if id(x) in kept]
        a["z"] = (a["z"] + b["z"]) / 2
        a["matches"] += b["matches"]
        self.ltm[j] = None
        self.events.append("merge")

    # ---- the whole memory --------------------------------------------------------
    @property
    def images(self):
        return sum(len(c["items"]) for c in self.stm + self.ltm if c)

    def end_batch(self, embed):
        if self.images < self.s["budget"]:
            return
        kind = self.s["consolidation"]
        self.events.append(kind)
        self.cycle += 1
        if kind == "trim":
            for c in sorted((c for c in self.stm if c), key=lambda c: -c["age"]):
                while self.images > self.s["budget"] and len(c["items"]) > 1:
                    c["items"].pop()
            return
        for c in self.stm + self.ltm:
            if c:
                c["z"] = np.mean([embed(x["image"]) for x in c["items"]], axis=0)
        for row, c in enumerate(self.stm):
            if c:
                c["items"], c["matches"] = c["items"][:1], 0
            if kind == "reset_stm":
                self.stm[row] = None

    def refresh(self, slots, features):
        """Rows as drawn, LTM first; the released code reads the STM's first."""
        if self.s["swap_halves"]:
            border = len(self.stm) * self.s["images_per_centroid"]
            stm = [s for s in slots if s < border]
            slots = stm + [s for s in slots if s >= border]
        rows = self.stm + self.ltm
        for slot, z in zip(slots, features, strict=True):
            c = rows[slot // self.s["images_per_centroid"]]
            a = self.s["refresh_rate"] / len(c["items"])
            c["z"] = (1 - a) * c["z"] + a * np.asarray(z, np.float64)
