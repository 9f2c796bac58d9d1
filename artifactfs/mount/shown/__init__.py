"""What a tree is made of: node ids, and the directories that change."""
