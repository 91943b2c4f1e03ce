"""Words and looks of the preview page."""

from __future__ import annotations

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;text-align:left;
border-bottom:1px solid #ddd}img{width:12rem;image-rendering:pixelated;display:block;
border-radius:4px}label{cursor:pointer}input{position:absolute;opacity:0}
.hidden{display:inline-block}.hidden img{filter:blur(16px)}.hidden input:checked+img{filter:none}
input:focus-visible+img,input:focus-visible+label{outline:3px solid #2e5eaa}p.note{color:#555}
.tongue{margin-right:1rem;text-decoration:underline}.ja{display:none}
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
