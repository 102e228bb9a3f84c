"""Names of metrics are found in whatever PromQL holds, and nothing else is taken for one."""

import pytest

from tests.promql import fill_in, metric_names


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ("up == bool 1", {"up"}),
        ("sum(rate(a_total[5m])) / sum(rate(b_total[5m])) > 0.5", {"a_total", "b_total"}),
        ("sum by (le, a) (rate(c_bucket{d=~'e|f', g!=\"h\"}[1h:30s] offset 2d))", {"c_bucket"}),
        ("sum(a) by (b) / on (c, d) group_left (e) f", {"a", "f"}),
        ("a / ignoring(b) group_right c", {"a", "c"}),
        ("histogram_quantile(0.99, x_bucket) >= 0 or vector(0)", {"x_bucket"}),
        ('absent(up{job="a b{c}(d)"} == 1) and time() > 1e6 unless count(job:x:rate5m)', {"up", "job:x:rate5m"}),
        ('{__name__="named", job="x"} * 0x1f + Inf - NaN', {"named"}),
        ('label_replace(a, "b", "$1", "c", "(.*)d\\"e")', {"a"}),
        ("a @ start() + b @ 1609746000 offset -5m", {"a", "b"}),
        ("topk(3, rate) + sum_ + by_x", {"rate", "sum_", "by_x"}),
        ("a # b\n + c", {"a", "c"}),
        ("-a ^ 2 AND b", {"a", "b"}),
    ],
)
def test_names(expression: str, names: set[str]) -> None:
    assert metric_names(expression) == names


def test_variables_are_filled_in() -> None:
    assert fill_in('rate(a{b=~"$model"}[$__rate_interval])') == 'rate(a{b=~".+"}[5m])'
    with pytest.raises(ValueError, match="unknown variable"):
        fill_in("rate(a[$__interval])")
