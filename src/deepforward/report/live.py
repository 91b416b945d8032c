"""The page around a report that is still changing."""

from __future__ import annotations

from deepforward.report.page import policy, resource

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0; background: light-dark(#ffffff, #15171a); }
iframe { position: fixed; inset: 0; width: 100%; height: 100%; border: 0; color-scheme: light dark; }
#note {
  position: fixed; left: 0.75rem; bottom: 0.75rem; margin: 0; padding: 0.25rem 0.8rem; border-radius: 999px;
  color: light-dark(#1b1e22, #e7e9ec); background: light-dark(#f6f7f8, #1d2024); border: 1px solid light-dark(#dcdfe3, #33383e);
  font: 0.8rem/1.4 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
#note::before { content: "\\25cf\\a0"; color: light-dark(#59616b, #a3abb5); }
#note[data-state="live"]::before { color: light-dark(#0a6b46, #5fd0a0); }
#note[data-state="gone"]::before { color: light-dark(#b3261e, #ff9b90); }
@media print { #note { display: none; } }
"""


def shell() -> str:
    """The document that shows `/page` and, whenever the tag that `/state` gives is another, the new one in its place.

    The report itself stays the file that it would be on the disk, under its own policy; scroll position and theme are kept. It
    asks every 2 to 5 seconds, and not while nobody sees it; `/state` gives {"tag": ..., "status": ...}, the status being
    waiting, live or ended.
    """
    script = resource("live.js")
    allowed = f"{policy([script])}; connect-src 'self'; frame-src 'self'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{allowed}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>deepforward</title>
<style>{_STYLE}</style>
</head>
<body>
<iframe id="shown" title="Report of the run"></iframe>
<noscript><p>Without JavaScript the page does not change by itself: <a href="/page">the report as it stands</a>.</p></noscript>
<p id="note" role="status"></p>
<script>{script}</script>
</body>
</html>
"""
