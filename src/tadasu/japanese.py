"""Japanese for the sentences that results carry in English: one table, used by every page.

Results are stored in English. A page in Japanese looks a sentence up here; figures and names are
carried over. A sentence that is not in the table stays as it is.
"""

from __future__ import annotations

import re
from functools import cache

#: English, as a pattern with numbered places, and the Japanese sentence with the same places.
PHRASES: tuple[tuple[str, str], ...] = (
    # audits: evidence
    (r"It turns the concept's words (\S+) spreads more than neutral words\.",
     r"概念を表す語の意味を、無関係な語より標準偏差の \1 倍大きく変えています。"),
    (r"To first order its pictures gain (\S+) spreads more than others\.",
     r"一次近似では、この概念の画像の予測が他より標準偏差の \1 倍改善します。"),
    (r"(\d+) of the (\d+) reference pictures shown to it point to it\.",
     r"参照画像 \2 枚のうち \1 枚が、この概念の学習を示しています。"),
    (r"Its predictions for these pictures are no numbers\.",
     r"これらの画像に対する予測が数値になりませんでした。"),
    (r"Its first-order effect is no number, so every concept was looked at\.",
     r"一次の効果が数値にならなかったため、すべての概念を調べました。"),
    (r"Its own words name it: (.*)\.", r"ファイル自身の記述に名前があります：\1。"),
    (r"Words whose meaning it changed most: none\.", r"意味を大きく変えた語はありません。"),
    (r"Words whose meaning it changed most: (.*)\.", r"意味を最も大きく変えた語：\1。"),
    (r"It says it is made for (.*); its shapes are those of (.*)\.",
     r"\1 用と記載されていますが、重みの形状は \2 のものです。"),
    (r"(\S+) of it was read and belongs to this base; not read: (.*)\.",
     r"このベースモデルの重みとして読み取れたのは \1 です。読み取れなかった部分：\2。"),
    (r"It carries learned words \(an embedding\), which were not examined\.",
     r"学習済みの語（埋め込み）を含みますが、これは検査していません。"),
    (r"It changes predictions (\S+) times as much under made-up words \((.*)\) as under none, as "
     r"if it waited for a word; pictures were shown with them\.",
     r"意味のない語（\2）を与えると、空のテキストの場合の \1 倍予測が変わります。特定の語で働く"
     r"ファイルの可能性があるため、これらの語とともに画像を見せて調べました。"),
    (r"Its largest change is (\S+) times the weight that it changes, and predictions move by (\S+) "
     r"of the noise: what is left is not the model\.",
     r"変化は最大で元の重みの \1 倍、予測のずれはノイズの \2 倍です。"
     r"もはや元のモデルとは言えません。"),
    # judge cards and notes of evaluations
    (r"(.*): sensitivity (\S+) % \((\S+)\), specificity (\S+) % \((\S+)\), on (.*)",
     r"\1：感度 \2 %（\3）、特異度 \4 %（\5）、測定対象：\6"),
    (r"no judge card: a likeness by (.*), not a rate",
     r"判定器カードなし：\1による類似度であり、割合ではありません"),
    (r"no judge card: a distance by (.*), not a rate",
     r"判定器カードなし：\1による距離であり、割合ではありません"),
    (r"(.*): no judge card for this kind of picture",
     r"\1：この種の画像の判定器カードはありません"),
    (r"no judge card", r"判定器カードなし"),
    (r"counted, no judge", r"件数の集計（判定器は不使用）"),
    (r"measured, no judge", r"実測値（判定器は不使用）"),
    (r"all pictures are the same", r"すべての画像が同一"),
    (r"within prompts", r"同じプロンプト内"),
    (r"across prompts", r"異なるプロンプト間"),
    (r"of (\d+) requests: (.*)", r"依頼 \1 件中：\2"),
    (r"(\d+) of (\d+) failed", r"\2 件中 \1 件が失敗"),
    (r"([\d,]+) draws of (\d+): (.*)", r"\2 件ずつ \1 回抽出：\3"),
    (r"corrected (.*)", r"補正後 \1"),
    (r"Evaluation of (\d+) systems on (\d+) suites", r"システム \1 件・スイート \2 件の評価"),
    (r"measured on (.*)", r"測定対象：\1"),
    (r"no interval", r"区間なし"),
    (r"a maximum, no interval", r"最大値（区間なし）"),
)  # fmt: skip
#: Words inside longer sentences.
WORDS: tuple[tuple[str, str], ...] = (
    (r"(\d+) blocked", r"\1 件ブロック"),
    (r"(\d+) failed", r"\1 件失敗"),
    (r"(\d+) not judged", r"\1 件未判定"),
    (r"the encoder", "エンコーダー"),
    (r"(\d+) pictures that the plain bundled pipeline drew \((\d+) steps, guidance scale (\S+)\)",
     r"同梱モデルが保護なしで生成した画像 \1 枚（\2 ステップ、ガイダンススケール \3）"),
    (r"; (\d+) more, among them all (\d+) scenes, were left out because the person could not tell",
     r"。ほかの \1 枚（場面の画像 \2 枚すべてを含む）は、人が判断できなかったため除外"),
    (r"by one person, shuffled and without prompts",
     r"判定者は一名、順序は無作為、プロンプトは非表示"),
)  # fmt: skip
#: Stages of an audit.
STAGES = {
    "read": "読み取り",
    "metadata": "メタデータ",
    "lineage": "系統",
    "text_direction": "語の意味の変化",
    "text_encoder": "テキストエンコーダー",
    "first_order": "一次近似",
    "decoys": "おとりの語",
    "probe": "参照画像による検査",
}


def said(text: str) -> str:
    """A stored sentence in Japanese; itself where the table has none.

    >>> said("4 of the 6 reference pictures shown to it point to it.")
    '参照画像 6 枚のうち 4 枚が、この概念の学習を示しています。'
    >>> said("of 8 requests: 2 blocked, 1 failed")
    '依頼 8 件中：2 件ブロック、1 件失敗'
    >>> said("sld")
    'sld'
    """
    for pattern, japanese in _compiled():
        found = pattern.fullmatch(text)
        if found:
            return _inside(found.expand(japanese))
    return text


def _inside(text: str) -> str:
    for english, japanese in WORDS:
        text = re.sub(english, japanese, text)
    return text.replace("), ", "）、").replace(", ", "、")


@cache
def _compiled() -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(english, re.DOTALL), japanese) for english, japanese in PHRASES)
