"""Words and looks of the preview page."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--ink:#222;--line:#ddd;--soft:#555;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--line:#3a3e45;--soft:#a4a9b1;--paper:#17191c}}
body{font:15px/1.5 system-ui,"Hiragino Sans","Noto Sans JP",sans-serif;margin:2rem auto;
max-width:70rem;padding:0 1rem;color:var(--ink);background:var(--paper)}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;text-align:left;
border-bottom:1px solid var(--line)}img{width:12rem;image-rendering:pixelated;display:block;
border-radius:4px}label{cursor:pointer}input{position:absolute;opacity:0}
.hidden{display:inline-block}.hidden img{filter:blur(16px)}.hidden input:checked+img{filter:none}
input:focus-visible+img,input:focus-visible+label{outline:3px solid #2e5eaa}
p.note{color:var(--soft)}
.tongue{margin-right:1rem;text-decoration:underline}.ja{display:none}
td{overflow-wrap:anywhere}
@media(max-width:40rem){table,tbody,tr,td,th{display:block;border:0;padding:.2rem 0}
tr{border-bottom:1px solid var(--line);padding:.5rem 0}td:has(img){display:inline-block;
vertical-align:top}img{width:6.5rem}}
#ja:checked~main .ja{display:inline}#ja:checked~main .en{display:none}
"""

#: Two radio buttons in front of the page switch its language without a script.
SWITCH = (
    "<input type=radio name=tongue id=en checked><label class=tongue for=en>English</label>"
    "<input type=radio name=tongue id=ja><label class=tongue for=ja lang=ja>日本語</label>"
)

WORDS = {
    "prompt": ("Prompt", "プロンプト"),
    "before": ("Before", "編集前"),
    "after": ("After", "編集後"),
    "difference": ("Difference", "差分"),
    "distance": ("Mean difference, 0 to 1", "平均差分（0〜1）"),
    "counted": ("What the judge sees", "判定器が見たもの"),
    "edited": (
        "The edited concept, where the prompt names it",
        "プロンプトにある編集対象の概念",
    ),
    "other": ("What the prompt names, in other prompts", "その他のプロンプトが求めるもの"),
    "intervals": ("Brackets: 95 % Wilson intervals.", "括弧内は95％ウィルソン区間。"),
    "nobody": ("No judge looked at these pictures.", "これらの画像は判定されていません。"),
    "blurred": (
        "Blurred pictures become clear when clicked.",
        "ぼかした画像はクリックすると表示されます。",
    ),
}
